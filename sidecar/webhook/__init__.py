"""
The injecting admission webhook: an AdmissionReview in, the same with a patch or a refusal out.

    review.py        pure: a review, a ServiceAccount and settings → the answer
    service_accounts.py      ServiceAccounts, from a watch, and asked for where the watch does not know
    certificate.py   pure: authorities and certificate, made and renewed by the clock that is passed
    managed.py      … kept in a Secret that replicas share, and in the webhook's configuration
    mounted.py  … or somebody else's, read again when its files change
    tls.py           the TLS context in use, swapped whole
    api.py, list_watch.py  the API server: requests with deadlines; lists and watches that never end
    events.py        what only the maker of a Pod's owner can be told
    server.py        HTTP/1.1 over TLS
    service.py       routes and the one tree of tasks
    run.py       the parts put together, and their end in order

Injection itself is sidecar/injection, which `setup pod` uses too. Needs the extra `webhook`.
"""
