// A client with AWS SDK for Go v1. It has one session, whose provider caches credentials, as in an application.
package main

import (
	"os"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/service/sts"

	"irsa-sidecar/tests/sdk/requestloop"
)

func main() {
	ours := session.Must(session.NewSession())
	// v1 does not read the variable automatically.
	config := aws.NewConfig().WithEndpoint(os.Getenv("AWS_ENDPOINT_URL_STS"))
	requestloop.Loop(requestloop.Handlers{
		"get": func() (requestloop.Response, error) {
			found, err := ours.Config.Credentials.Get()
			return requestloop.Credentials(found.AccessKeyID, found.SecretAccessKey, found.SessionToken), err
		},
		"whoami": func() (requestloop.Response, error) {
			caller, err := sts.New(ours, config).GetCallerIdentity(&sts.GetCallerIdentityInput{})
			if err != nil {
				return nil, err
			}
			return requestloop.Response{"arn": *caller.Arn}, nil
		},
	})
}
