import com.amazonaws.AmazonServiceException;
import com.amazonaws.ClientConfiguration;
import com.amazonaws.SdkClientException;
import com.amazonaws.client.builder.AwsClientBuilder.EndpointConfiguration;
import com.amazonaws.services.cloudwatchrum.AWSCloudWatchRUM;
import com.amazonaws.services.cloudwatchrum.AWSCloudWatchRUMClientBuilder;
import com.amazonaws.services.cloudwatchrum.model.AppMonitorDetails;
import com.amazonaws.services.cloudwatchrum.model.PutRumEventsRequest;
import com.amazonaws.services.cloudwatchrum.model.RumEvent;
import com.amazonaws.services.cloudwatchrum.model.UserDetails;
import com.amazonaws.services.eventbridge.AmazonEventBridge;
import com.amazonaws.services.eventbridge.AmazonEventBridgeClientBuilder;
import com.amazonaws.services.eventbridge.model.PutEventsRequest;
import com.amazonaws.services.eventbridge.model.PutEventsRequestEntry;
import com.amazonaws.services.eventbridge.model.PutEventsResult;
import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Date;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.Function;

/**
 * The program of tests/e2e/programs.py with the Java SDK v1. Its argument is the API.
 *
 * <p>This SDK reads no endpoint from the environment, so a program has it in its code.
 */
public final class Client1 {
  public static void main(String[] arguments) throws IOException {
    Function<JsonObject, JsonObject> call = arguments[0].equals("rum") ? putRumEvents() : putEvents();
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    BufferedReader calls = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = calls.readLine(); line != null; line = calls.readLine()) {
      out.println(new Gson().toJson(said(call, JsonParser.parseString(line).getAsJsonObject())));
    }
  }

  private static EndpointConfiguration endpoint(String variable) {
    return new EndpointConfiguration(System.getenv(variable), System.getenv("AWS_REGION"));
  }

  private static ClientConfiguration configuration() {
    int attempts = Integer.parseInt(System.getenv("AWS_MAX_ATTEMPTS"));
    return new ClientConfiguration().withDisableHostPrefixInjection(true).withMaxErrorRetry(attempts - 1);
  }

  private static JsonObject said(Function<JsonObject, JsonObject> call, JsonObject params) {
    JsonObject line = new JsonObject();
    try {
      line.add("answer", call.apply(params));
    } catch (AmazonServiceException error) {
      line.add("error", failure(error.getErrorCode(), error.getErrorMessage()));
    } catch (SdkClientException error) {
      line.add("error", failure(error.getClass().getSimpleName(), error.getMessage()));
    }
    return line;
  }

  private static JsonObject failure(String code, String message) {
    JsonObject failure = new JsonObject();
    failure.addProperty("code", code);
    failure.addProperty("message", message);
    return failure;
  }

  private static Function<JsonObject, JsonObject> putEvents() {
    AmazonEventBridge client =
        AmazonEventBridgeClientBuilder.standard()
            .withEndpointConfiguration(endpoint("AWS_ENDPOINT_URL_EVENTBRIDGE"))
            .withClientConfiguration(configuration())
            .build();
    return params -> {
      PutEventsResult result =
          client.putEvents(
              new PutEventsRequest().withEntries(each(params.getAsJsonArray("Entries"), Client1::entry)));
      JsonArray results = new JsonArray();
      result.getEntries().forEach(each -> {
        JsonObject made = new JsonObject();
        made.addProperty("EventId", each.getEventId());
        made.addProperty("ErrorCode", each.getErrorCode());
        made.addProperty("ErrorMessage", each.getErrorMessage());
        results.add(made);
      });
      JsonObject answer = new JsonObject();
      answer.addProperty("FailedEntryCount", result.getFailedEntryCount());
      answer.add("Entries", results);
      return answer;
    };
  }

  private static PutEventsRequestEntry entry(JsonObject from) {
    PutEventsRequestEntry entry = new PutEventsRequestEntry();
    text(from, "Source", entry::setSource);
    text(from, "DetailType", entry::setDetailType);
    text(from, "Detail", entry::setDetail);
    text(from, "EventBusName", entry::setEventBusName);
    text(from, "TraceHeader", entry::setTraceHeader);
    text(from, "Time", time -> entry.setTime(Date.from(Instant.parse(time))));
    if (from.has("Resources")) {
      entry.setResources(from.getAsJsonArray("Resources").asList().stream().map(JsonElement::getAsString).toList());
    }
    return entry;
  }

  private static Function<JsonObject, JsonObject> putRumEvents() {
    AWSCloudWatchRUM client =
        AWSCloudWatchRUMClientBuilder.standard()
            .withEndpointConfiguration(endpoint("AWS_ENDPOINT_URL_RUM"))
            .withClientConfiguration(configuration())
            .build();
    return params -> {
      PutRumEventsRequest request = new PutRumEventsRequest();
      text(params, "Id", request::setId);
      text(params, "BatchId", request::setBatchId);
      AppMonitorDetails monitor = new AppMonitorDetails();
      JsonObject details = params.getAsJsonObject("AppMonitorDetails");
      text(details, "id", monitor::setId);
      text(details, "name", monitor::setName);
      text(details, "version", monitor::setVersion);
      UserDetails user = new UserDetails();
      text(params.getAsJsonObject("UserDetails"), "userId", user::setUserId);
      text(params.getAsJsonObject("UserDetails"), "sessionId", user::setSessionId);
      client.putRumEvents(
          request
              .withAppMonitorDetails(monitor)
              .withUserDetails(user)
              .withRumEvents(each(params.getAsJsonArray("RumEvents"), Client1::rumEvent)));
      return new JsonObject();
    };
  }

  private static RumEvent rumEvent(JsonObject from) {
    RumEvent event = new RumEvent();
    text(from, "id", event::setId);
    text(from, "timestamp", time -> event.setTimestamp(Date.from(Instant.parse(time))));
    text(from, "type", event::setType);
    text(from, "details", event::setDetails);
    text(from, "metadata", event::setMetadata);
    return event;
  }

  private static <T> List<T> each(JsonArray objects, Function<JsonObject, T> make) {
    List<T> made = new ArrayList<>();
    objects.forEach(object -> made.add(make.apply(object.getAsJsonObject())));
    return made;
  }

  private static void text(JsonObject from, String name, Consumer<String> take) {
    if (from.has(name)) {
      take.accept(from.get(name).getAsString());
    }
  }
}
