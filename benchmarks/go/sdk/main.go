// A program that gets its own credentials with the AWS SDK's web identity provider, as each Go program does without a
// sidecar. It prints the access key and waits for a signal.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func main() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	client := sts.New(sts.Options{
		Region:           os.Getenv("AWS_REGION"),
		EndpointResolver: sts.EndpointResolverFromURL(os.Getenv("AWS_ENDPOINT_URL_STS")),
		Credentials:      aws.AnonymousCredentials{},
	})
	provider := stscreds.NewWebIdentityRoleProvider(
		client, os.Getenv("AWS_ROLE_ARN"), stscreds.IdentityTokenFile(os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE")))
	credentials, err := provider.Retrieve(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(credentials.AccessKeyID)
	<-ended
}
