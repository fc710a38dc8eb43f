"""How a run judges the textbook's claims: a file per experiment, a rule per claim, numbers fixed before any run.

"At least x" means that the whole 95 % interval lies there. Each rule takes the results of a run and gives a verdict
with one sentence that has the number.
"""
