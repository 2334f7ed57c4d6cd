// A client with AWS SDK for Go v2: one configuration, whose provider keeps its credentials, as in an application.
package main

import (
	"context"
	"log"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"irsa-sidecar/tests/sdk/answering"
)

func main() {
	ctx := context.Background()
	ours, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		log.Fatal(err)
	}
	answering.Loop(answering.Questions{
		"get": func() (answering.Answer, error) {
			set, err := ours.Credentials.Retrieve(ctx)
			return answering.Set(set.AccessKeyID, set.SecretAccessKey, set.SessionToken), err
		},
		"whoami": func() (answering.Answer, error) {
			caller, err := sts.NewFromConfig(ours).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
			if err != nil {
				return nil, err
			}
			return answering.Answer{"arn": *caller.Arn}, nil
		},
	})
}
