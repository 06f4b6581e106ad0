"""Looking after a workspace: what is damaged, what nobody needs, and who is to be forgotten.

Begin with `doctor` and `finding`; `prune` removes by age, `forget` a person.
"""
