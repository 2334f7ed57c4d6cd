module irsa-sidecar.test/pause

go 1.24.0
