"""
Serve credentials, probes and metrics to clients in the Pod, with one response per connection.

    listen                   opens the sockets, before the heavy imports
    server                   accepts, reads and sends (connection, limits); a Handler (listener) chooses the response
    http, hosts              the grammar of a request, the form of a response, and the check of the Host header
    container_credentials    decides who gets credentials, and returns them in the format of ECS
    imds                     decides the same, and returns credentials in the format of EC2's metadata service
    admin                    probes and metrics
    authorization            the file with the secret that clients send
    peer                     finds the client's user and process, with sock_diag or proc_net, and peer_process
    audit                    logs who got credentials and who was denied
    http_server              serves the webhook and `local`, over TLS or plain TCP, and keeps connections open;
                             uses http_message, stream, accepting and connection_budget
"""
