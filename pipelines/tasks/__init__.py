"""The users line: tasks learnt one after the other on one encoder. Begin with `adding` and `learning`, then `gate`;
`predict` answers."""
