// A client with minio-go. Its provider for AWS caches credentials, as in an application.
package main

import (
	"net/http"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"irsa-sidecar/tests/sdk/requestloop"
)

func main() {
	provider := credentials.NewIAM("")
	requestloop.Loop(requestloop.Handlers{
		"get": func() (requestloop.Response, error) {
			found, err := provider.GetWithContext(&credentials.CredContext{Client: http.DefaultClient})
			return requestloop.Credentials(found.AccessKeyID, found.SecretAccessKey, found.SessionToken), err
		},
	})
}
