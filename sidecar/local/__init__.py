"""
Run the services that the daemon needs on one machine: an OIDC issuer, a kubelet's token volume and STS.

Inputs: configuration and signing keys. Outputs: tokens, credentials and events. Each service works like the real
service. No response is hard-coded.

- config, shown_value: the configuration file of `local`
- issuer, signing_keys, service_account: sign service account tokens as the API server does, and publish the keys
- kubelet: keep a token in a volume and renew it
- sts: the HTTP interface of STS. parameters, operations, sts_xml: its requests, decisions and responses
- provider_keys: fetch the issuers' keys that STS uses to verify a token
- sigv4, sessions: verify the signatures that clients make with credentials of this STS
- roles, trust_policy, condition_operators, session_policy, session_size: IAM roles, their policies and limits
- conditions, exchange, policy_lines: what STS compared in a call, with the lines of the configuration file
- readable_policy: read a trust policy from IAM, also with elements that are not evaluated here
- strangers: detect trust policies that allow too much
- events: define the events of the services
- controls, control_panel, effects, pod_tokens: actions and faults that a person starts on the page
- listening: bind the ports
- page: show the services in a browser
- feed, event_log: send the events to the terminal, the page and the log
- sentences, terminal: explain the events on a terminal
- services: start all services together (`serve_local`)
"""
