// The program of tests/e2e/programs.py with the Go SDK v2. Its argument is the API.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/evidently"
	"github.com/aws/aws-sdk-go-v2/service/rum"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

type failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

type line struct {
	Answer any      `json:"answer,omitempty"`
	Error  *failure `json:"error,omitempty"`
}

// RUM and Evidently put "dataplane." before the host, unless they are told not to.
func withoutHostPrefix(stack *middleware.Stack) error {
	const id = "WithoutHostPrefix"
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc(id, func(
		ctx context.Context, input middleware.InitializeInput, next middleware.InitializeHandler,
	) (middleware.InitializeOutput, middleware.Metadata, error) {
		return next.HandleInitialize(smithyhttp.DisableEndpointHostPrefix(ctx, true), input)
	}), middleware.Before)
}

// The members of the SDK's inputs have the names of the wire, so that JSON goes straight into them.
func call[Input, Options, Output any](
	operation func(context.Context, *Input, ...func(*Options)) (*Output, error),
) func(json.RawMessage) (any, error) {
	return func(params json.RawMessage) (any, error) {
		input := new(Input)
		if err := json.Unmarshal(params, input); err != nil {
			log.Fatal(err)
		}
		return operation(context.Background(), input)
	}
}

func main() {
	settings, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	api := os.Args[1]
	if api != "eventbridge" {
		settings.APIOptions = append(settings.APIOptions, withoutHostPrefix)
	}
	operation := map[string]func(json.RawMessage) (any, error){
		"eventbridge": call(eventbridge.NewFromConfig(settings).PutEvents),
		"rum":         call(rum.NewFromConfig(settings).PutRumEvents),
		"evidently":   call(evidently.NewFromConfig(settings).PutProjectEvents),
	}[api]
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
	var fault smithy.APIError
	if errors.As(err, &fault) {
		return line{Error: &failure{Code: fault.ErrorCode(), Message: fault.ErrorMessage()}}
	}
	return line{Error: &failure{Code: "none", Message: err.Error()}}
}
