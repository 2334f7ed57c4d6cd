"""
What a Pod is given so that its AWS SDKs come to a sidecar: a Pod in, the same Pod with all of it out. Pure.

    flags.py         what the commands are told of every Pod
    known_names.py   names that are almost ours, by similar_names.py
    options.py   what Pod and ServiceAccount ask for, checked
    eks_webhook.py        what Amazon's own webhook put into containers, taken away again
    assignment.py        which container gets which role
    application.py   what a container of the user's gets
    resources.py     what the sidecar asks for, by the Pod's class of QoS
    sidecar_container.py         what is added: the sidecar's container and its volumes
    shared_processes.py  which containers can read the sidecar's token through /proc
    warning.py       what the author of a Pod should know although it is injected
    validation.py      what is no Pod to inject
    pod.py           all of it together, or a refusal in one sentence
    json_patch.py    the difference of two documents, as an API server takes it

`irsa-sidecar webhook` and `irsa-sidecar setup pod` do nothing else to a Pod, so what the one would do can be seen from
the other.
"""
