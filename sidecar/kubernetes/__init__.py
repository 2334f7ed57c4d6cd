"""
Talk to a cluster's API server, as kubectl does: JSON documents go in and come out.

    kubeconfig.py          find the cluster in the kubeconfig files, or the Pod's own service account
    kubeconfig_entries.py  the fields of a kubeconfig that are used (pure)
    credentials.py         authenticate each request (exec_plugin.py runs a login plugin)
    client.py              the client for commands, and open_cluster.py to open it with its packages
    async_client.py        the client under trio, for the webhook
    list_watch.py          follow a collection by lists and watches
    api_errors.py          name the next step after an error of the API server (pure)
    document.py            the type of a Kubernetes object (pure)

Apart from document.py, this package needs the extra `setup` or `webhook`.
"""
