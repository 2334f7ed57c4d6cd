// Package answering is the loop of every Go client: one question per line on stdin, one JSON line per answer on stdout
// (see ../../answering.py).
package answering

import (
	"bufio"
	"encoding/json"
	"log"
	"os"
)

// Answer is the result of a question: credentials, an ARN, or an error.
type Answer map[string]string

// Questions are the questions that a client can answer.
type Questions map[string]func() (Answer, error)

// Set holds complete credentials.
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
