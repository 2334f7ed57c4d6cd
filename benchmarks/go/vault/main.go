// The peer of `irsa-sidecar run`: the ECS credential server of aws-vault with the web identity provider of the AWS SDK.
// It makes the same single call to STS as `irsa-sidecar run`.
//
// This program exists because aws-vault's command line accepts no STS endpoint. The request log is discarded, as in
// aws-vault without --debug.
package main

import (
	"context"
	"io"
	"log"
	"os"
	"strconv"

	"github.com/99designs/aws-vault/v7/server"
	"github.com/99designs/aws-vault/v7/vault"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func main() {
	port, err := strconv.Atoi(os.Getenv("PEER_PORT"))
	if err != nil {
		log.Fatalf("PEER_PORT is %q, which is not a port. Set a port", os.Getenv("PEER_PORT"))
	}
	region := os.Getenv("AWS_REGION")
	client := sts.New(sts.Options{
		Region:           region,
		EndpointResolver: sts.EndpointResolverFromURL(os.Getenv("AWS_ENDPOINT_URL_STS")),
		Credentials:      aws.AnonymousCredentials{},
	})
	provider := stscreds.NewWebIdentityRoleProvider(
		client, os.Getenv("AWS_ROLE_ARN"), stscreds.IdentityTokenFile(os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE")))
	peer, err := server.NewEcsServer(
		context.Background(), provider, &vault.ProfileConfig{Region: region}, os.Getenv("PEER_AUTHORIZATION"), port, false)
	if err != nil {
		log.Fatal(err)
	}
	log.SetOutput(io.Discard)
	log.Fatal(peer.Serve())
}
