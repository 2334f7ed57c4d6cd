"""
Find problems in an inventory. Pure.

    broken.py      an application has no credentials, or will have none
    wide.py        a trust policy accepts more tokens than the role's users need
    exposed.py     an application holds credentials or tokens that it does not need, or can reach the node's role
    unused.py      objects that nothing uses
    cost.py        calls to STS that another setting would save
    incomplete.py  parts of the inventory that could not be read

Each module has a table of its rules. `all.py` lists them.
"""
