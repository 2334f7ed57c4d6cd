"""
Respond to admission reviews of Pods. A response contains a patch or a rejection, or allows the Pod unchanged.

    run.py                     create the parts, and stop them in order
    service.py                 the routes, and the tree of tasks
    review.py                  decide on a review by the Pod, its ServiceAccount and the settings (pure)
    service_accounts.py        find ServiceAccounts, from a watch or by a request
    known_service_accounts.py  the bounded memory of the watch (pure)
    turns.py                   let namespaces take turns with expensive reviews
    events.py                  send warnings to the owners of Pods
    metrics.py                 count reviews, lookups and Events, and write the metrics
    tls.py                     the active TLS context
    certificate/issue.py       create and renew authorities and certificates (pure)
    certificate/ca_rollover.py decide which authorities the API server trusts (pure)
    certificate/managed.py     issue a certificate, and keep it in a Secret
    certificate/mounted.py     read a certificate of another issuer from files

The package sidecar/injection changes the Pods, and `setup pod` uses it too. The HTTP server is
sidecar/serving/http_server.py. This package needs the extra `webhook`.
"""
