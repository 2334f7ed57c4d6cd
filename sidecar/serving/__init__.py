"""
Serve credentials, probes and metrics to clients in the Pod, with one response per connection.

    listen                   opens the sockets, before the heavy imports
    server                   accepts, reads, responds, with connection and limits; its Handler (listener) decides
    http, hosts              the grammar of a request, the form of a response, and the check of the Host header
    container_credentials    decides who gets credentials, in the format of ECS
    imds                     decides the same, in the format of EC2's metadata service
    admin                    probes and metrics
    authorization            the file with the secret that clients send
    peer                     finds the client's user and process, with sock_diag or proc_net, and peer_process
    audit                    logs who got credentials and who was denied
    http_server              HTTP over TLS for the webhook and `local`, with http_message, stream, accepting and
                             connection_budget
"""
