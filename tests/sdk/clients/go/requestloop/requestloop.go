// Package requestloop is the loop of every Go client. It reads one request per line from stdin, and writes one JSON line
// per response to stdout (see ../../request_loop.py).
package requestloop

import (
	"bufio"
	"encoding/json"
	"log"
	"os"
)

// Response is the response to a request: credentials, an ARN, or an error.
type Response map[string]string

// Handlers are the functions of a client by the name of the request.
type Handlers map[string]func() (Response, error)

// Credentials returns a response with credentials.
func Credentials(accessKeyID, secretAccessKey, sessionToken string) Response {
	return Response{"accessKeyId": accessKeyID, "secretAccessKey": secretAccessKey, "sessionToken": sessionToken}
}

// Loop responds to requests until stdin ends.
func Loop(handlers Handlers) {
	lines, responses := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() {
		response, err := handlers[lines.Text()]()
		if err != nil {
			response = Response{"error": err.Error()}
		}
		if err := responses.Encode(response); err != nil {
			log.Fatal(err)
		}
	}
}
