"""
Verify a token with the keys that its issuer publishes, as STS does.

In: a token and the URL of its issuer. Out: the verified claims, or the error that STS would return.

- jwks: fetch the issuer's discovery document and keys
- jwks_cache: keep keys between commands
- verification: check the signature, the times and the audience
- verified_token: all of this for one token, for `token --verify` and `doctor`
- key_rotation: when the signing key will be replaced
- sts_rejection: the errors of STS
"""
