// A client with minio-go: its provider for AWS, which keeps its credentials, as in an application.
package main

import (
	"net/http"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"irsa-sidecar/tests/sdk/answering"
)

func main() {
	provider := credentials.NewIAM("")
	answering.Loop(answering.Questions{
		"get": func() (answering.Answer, error) {
			set, err := provider.GetWithContext(&credentials.CredContext{Client: http.DefaultClient})
			return answering.Set(set.AccessKeyID, set.SecretAccessKey, set.SessionToken), err
		},
	})
}
