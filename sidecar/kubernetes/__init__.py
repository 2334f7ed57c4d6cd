"""
Call a cluster's API server, as kubectl does. Requests and responses are JSON documents.

    kubeconfig.py          find the cluster in the kubeconfig files, or use the Pod's own service account
    kubeconfig_entries.py  the fields of a kubeconfig that are used (pure)
    credentials.py         authenticate each request (exec_plugin.py runs a login plugin)
    client.py              the client for commands (open_cluster.py imports it when a command needs a cluster)
    async_client.py        the client under trio, for the webhook
    pages.py               read a list item by item (pure)
    list_watch.py          follow a collection by lists and watches
    api_errors.py          name the next step after an error from the API server (pure)
    document.py            the type of a Kubernetes object (pure)
    names.py               patterns for the names of objects (pure)

Only document.py, names.py, pages.py and open_cluster.py can be imported without the extra `setup` or `webhook`.
"""
