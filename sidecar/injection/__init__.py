"""
Add a sidecar to a Pod. The input is a Pod, and the output is the same Pod with a sidecar, or a rejection. Pure.

    inject.py             the whole injection
    validation.py         check the shape of a Pod, and that a sidecar fits into it
    options.py            read the annotations of the Pod and of its ServiceAccount
    known_names.py        reject misspelt labels and annotations (similar_names.py compares names)
    assignment.py         decide which container gets which role
    eks_webhook.py        remove what Amazon's EKS Pod identity webhook added
    app_container.py      change a container of the application
    sidecar_container.py  create the sidecar's container and its volumes
    merge.py              merge the new sidecar into an earlier one
    resources.py          choose the sidecar's resources by the Pod's QoS class
    warning.py            warn the Pod's author (pod_termination.py, shared_processes.py)
    json_patch.py         compare two documents, for the response to the API server
    settings.py           the settings for all Pods (flags.py reads them from the command line)
    names.py              our names in a Pod

`irsa-sidecar webhook` and `irsa-sidecar setup pod` change a Pod only through this package. So the output of one command
shows the changes of the other one.
"""
