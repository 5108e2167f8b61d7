// Sends events with the CloudEvents SDK for Go; its order and what it heard are those of send.py.
// Events go out by the SDK's own client, which also tries again; it has no batches, so these go by Go's client.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

const (
	batch = 10
	wait  = 100 * time.Millisecond
)

type order struct {
	URL      string
	Mode     string
	Events   []event
	Patience float64
	Pause    float64
	Headers  map[string]string
}

type event struct {
	Attributes map[string]any
	Data       json.RawMessage
	Base64     []byte
}

type answer struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	Tries   int               `json:"tries"`
}

// recorder notes what the daemon answered, which the SDK's client does not show, and adds the order's headers.
type recorder struct {
	more map[string]string
	last answer
}

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	r.last = answer{Tries: r.last.Tries + 1, Headers: map[string]string{}}
	for name, value := range r.more {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		r.last.Body = err.Error()
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(body))
	r.last.Status, r.last.Body = response.StatusCode, string(body)
	for name := range response.Header {
		r.last.Headers[strings.ToLower(name)] = response.Header.Get(name)
	}
	return response, err
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func made(given event) cloudevents.Event {
	made := cloudevents.NewEvent()
	media := ""
	for name, value := range given.Attributes {
		text, _ := value.(string)
		switch name {
		case "specversion":
		case "id":
			made.SetID(text)
		case "source":
			made.SetSource(text)
		case "type":
			made.SetType(text)
		case "subject":
			made.SetSubject(text)
		case "dataschema":
			made.SetDataSchema(text)
		case "datacontenttype":
			media = text
		case "time":
			moment, err := time.Parse(time.RFC3339Nano, text)
			must(err)
			made.SetTime(moment)
		default:
			made.SetExtension(name, value)
		}
	}
	must(setData(&made, media, given))
	return made
}

// The SDK takes bytes as they are, and encodes any other value by its media type.
func setData(made *cloudevents.Event, media string, given event) error {
	var text string
	switch {
	case given.Base64 != nil:
		return made.SetData(media, given.Base64)
	case given.Data == nil:
		return nil
	case media != cloudevents.ApplicationJSON && json.Unmarshal(given.Data, &text) == nil:
		return made.SetData(media, []byte(text))
	}
	return made.SetData(media, given.Data)
}

// send has the SDK's client send an event, and try again where the order says so.
func send(todo order, client cloudevents.Client, told *recorder, event cloudevents.Event) answer {
	ctx := cloudevents.ContextWithTarget(context.Background(), todo.URL)
	if strings.HasPrefix(todo.Mode, "structured") {
		ctx = binding.WithForceStructured(ctx)
	}
	if tries := int(todo.Patience / wait.Seconds()); tries > 0 {
		ctx = cloudevents.ContextWithRetriesConstantBackoff(ctx, wait, tries)
	}
	told.last = answer{}
	result := client.Send(ctx, event)
	if cloudevents.IsACK(result) != (told.last.Status/100 == 2) {
		log.Fatalf("answered with %d, and the SDK says: %v", told.last.Status, result)
	}
	return told.last
}

func sendBatch(todo order, told *recorder, events []cloudevents.Event) answer {
	request, err := cehttp.NewHTTPRequestFromEvents(context.Background(), todo.URL, events)
	must(err)
	told.last = answer{}
	_, err = (&http.Client{Transport: told}).Do(request)
	must(err)
	return told.last
}

func main() {
	var todo order
	must(json.NewDecoder(os.Stdin).Decode(&todo))
	told := &recorder{more: todo.Headers}
	client, err := cloudevents.NewClientHTTP(cehttp.WithRoundTripper(told))
	must(err)
	answers := []answer{}
	for first := 0; first < len(todo.Events); {
		if todo.Mode == "batch" {
			events := []cloudevents.Event{}
			for ; first < len(todo.Events) && len(events) < batch; first++ {
				events = append(events, made(todo.Events[first]))
			}
			answers = append(answers, sendBatch(todo, told, events))
		} else {
			answers = append(answers, send(todo, client, told, made(todo.Events[first])))
			first++
		}
		time.Sleep(time.Duration(todo.Pause * float64(time.Second)))
	}
	must(json.NewEncoder(os.Stdout).Encode(answers))
}
