"""
Call AWS STS: exchange a token for credentials.

In: a `Role`, a `Token` and the `StsSettings`. Out: `Credentials`, or an ExchangeError with its next step.

- settings, endpoint: read the settings, and find the URL of STS in a region
- request, session_name: build the request for a role
- wire, signing, user_agent: write the request's bytes, and parse the response
- client: send one exchange over HTTPS, including the role chain
- regions, failover: use another region while the primary one is down
- errors: the next step and the hint for each error of STS
- expiration: when new credentials expire on our own clocks
- warnings: settings that work but are probably not intended
"""
