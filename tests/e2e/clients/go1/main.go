// The program of tests/e2e/programs.py with the Go SDK v1. Its argument is the API.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"log"
	"os"
	"strconv"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/awserr"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/service/cloudwatchevidently"
	"github.com/aws/aws-sdk-go/service/cloudwatchrum"
	"github.com/aws/aws-sdk-go/service/eventbridge"
)

type failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

type line struct {
	Answer any      `json:"answer,omitempty"`
	Error  *failure `json:"error,omitempty"`
}

// What is JSON in a text for other SDKs is an object for this one.
func withObjects(value any) any {
	switch value := value.(type) {
	case []any:
		for i := range value {
			value[i] = withObjects(value[i])
		}
	case map[string]any:
		for name := range value {
			text, isText := value[name].(string)
			if !isText || name != "details" && name != "metadata" {
				value[name] = withObjects(value[name])
			} else if err := json.Unmarshal([]byte(text), new(any)); err == nil {
				value[name] = json.RawMessage(text)
			}
		}
	}
	return value
}

// The members of the SDK's inputs have the names of the wire, so that JSON goes straight into them.
func call[Input, Output any](operation func(*Input) (*Output, error)) func(json.RawMessage) (any, error) {
	return func(params json.RawMessage) (any, error) {
		var found any
		if err := json.Unmarshal(params, &found); err != nil {
			log.Fatal(err)
		}
		params, err := json.Marshal(withObjects(found))
		if err != nil {
			log.Fatal(err)
		}
		input := new(Input)
		if err := json.Unmarshal(params, input); err != nil {
			log.Fatal(err)
		}
		return operation(input)
	}
}

// This SDK reads no endpoint and no number of tries from the environment, so a program has them in its code.
func settings(endpoint string) *aws.Config {
	attempts, err := strconv.Atoi(os.Getenv("AWS_MAX_ATTEMPTS"))
	if err != nil {
		log.Fatal(err)
	}
	return aws.NewConfig().
		WithEndpoint(os.Getenv(endpoint)).
		WithDisableEndpointHostPrefix(true).
		WithMaxRetries(attempts - 1)
}

func main() {
	common := session.Must(session.NewSession())
	operation := map[string]func(json.RawMessage) (any, error){
		"eventbridge": call(eventbridge.New(common, settings("AWS_ENDPOINT_URL_EVENTBRIDGE")).PutEvents),
		"rum":         call(cloudwatchrum.New(common, settings("AWS_ENDPOINT_URL_RUM")).PutRumEvents),
		"evidently":   call(cloudwatchevidently.New(common, settings("AWS_ENDPOINT_URL_EVIDENTLY")).PutProjectEvents),
	}[os.Args[1]]
	lines := json.NewEncoder(os.Stdout)
	todo := bufio.NewScanner(os.Stdin)
	todo.Buffer(nil, 8<<20)
	for todo.Scan() {
		if err := lines.Encode(say(operation(todo.Bytes()))); err != nil {
			log.Fatal(err)
		}
	}
	if err := todo.Err(); err != nil {
		log.Fatal(err)
	}
}

func say(answer any, err error) line {
	if err == nil {
		return line{Answer: answer}
	}
	var fault awserr.Error
	if errors.As(err, &fault) {
		return line{Error: &failure{Code: fault.Code(), Message: fault.Message()}}
	}
	return line{Error: &failure{Code: "none", Message: err.Error()}}
}
