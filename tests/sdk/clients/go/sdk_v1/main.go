// A client with AWS SDK for Go v1: one session, whose provider keeps its credentials, as in an application.
package main

import (
	"os"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/service/sts"

	"irsa-sidecar/tests/sdk/answering"
)

func main() {
	ours := session.Must(session.NewSession())
	// v1 does not read the variable automatically.
	there := aws.NewConfig().WithEndpoint(os.Getenv("AWS_ENDPOINT_URL_STS"))
	answering.Loop(answering.Questions{
		"get": func() (answering.Answer, error) {
			set, err := ours.Config.Credentials.Get()
			return answering.Set(set.AccessKeyID, set.SecretAccessKey, set.SessionToken), err
		},
		"whoami": func() (answering.Answer, error) {
			caller, err := sts.New(ours, there).GetCallerIdentity(&sts.GetCallerIdentityInput{})
			if err != nil {
				return nil, err
			}
			return answering.Answer{"arn": *caller.Arn}, nil
		},
	})
}
