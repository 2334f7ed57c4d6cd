"""
What is wrong with IRSA here, along the way of the data: settings, token, issuer, STS, exchange, trust policy, endpoint,
application.

Every group of checks is one pure file: facts in, findings out, in a table. What the facts are is looked up by the
file of the same name in `gather`. `examination` joins the two, and `report` tells.
"""
