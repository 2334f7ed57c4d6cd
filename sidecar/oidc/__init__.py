"""
Verify a token with the keys that its issuer publishes, as STS does.

In: a token and the URL of its issuer. Out: the verified identity or the key that verified the token, or the error that
STS would return.

- jwks: fetch the issuer's discovery document and keys
- jwks_cache: keep keys between commands
- verification: check the signature, the times and the audience
- verified_token: verify one token with these modules, for `token --verify` and `doctor`
- key_rotation: estimate the time at which the issuer removes the signing key
- sts_rejection: the errors of STS
"""
