// A client with AWS SDK for Go v2. It has one configuration, whose provider caches credentials, as in an application.
package main

import (
	"context"
	"log"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"irsa-sidecar/tests/sdk/requestloop"
)

func main() {
	ctx := context.Background()
	ours, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		log.Fatal(err)
	}
	requestloop.Loop(requestloop.Handlers{
		"get": func() (requestloop.Response, error) {
			found, err := ours.Credentials.Retrieve(ctx)
			return requestloop.Credentials(found.AccessKeyID, found.SecretAccessKey, found.SessionToken), err
		},
		"whoami": func() (requestloop.Response, error) {
			caller, err := sts.NewFromConfig(ours).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
			if err != nil {
				return nil, err
			}
			return requestloop.Response{"arn": *caller.Arn}, nil
		},
	})
}
