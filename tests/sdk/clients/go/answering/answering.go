// Package answering is the loop of every Go client here: a question a line on stdin, an answer a line of JSON on
// stdout (see ../../answering.py).
package answering

import (
	"bufio"
	"encoding/json"
	"log"
	"os"
)

// Answer is what a client was told: a set of credentials, an ARN, or what went wrong.
type Answer map[string]string

// Questions are those that a client can be asked.
type Questions map[string]func() (Answer, error)

// Set is a whole set of credentials.
func Set(accessKeyID, secretAccessKey, sessionToken string) Answer {
	return Answer{"accessKeyId": accessKeyID, "secretAccessKey": secretAccessKey, "sessionToken": sessionToken}
}

// Loop answers until stdin ends.
func Loop(questions Questions) {
	lines, answers := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() {
		answer, err := questions[lines.Text()]()
		if err != nil {
			answer = Answer{"error": err.Error()}
		}
		if err := answers.Encode(answer); err != nil {
			log.Fatal(err)
		}
	}
}
