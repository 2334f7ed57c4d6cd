"""
All of IRSA's other half on one machine, as real peers: nothing here is simulated by canned answers.

`issuer` signs service account tokens as the API server does, `kubelet` keeps one fresh in a volume, and `sts`
verifies it against the issuer's published keys and the role's trust policy, gives credentials out and checks the
signatures made with them. `services.serve_local` starts the three together.
"""
