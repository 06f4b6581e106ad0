"""One folder that stays whole: the ledger says what is there, and nothing is ever half published.

Begin with `layout` (where everything lies), `ledger` and `transaction` (what happened), and `publish` (the contract of
every write). `writer` is the right to write, `failpoints` names the places where tests kill.
"""
