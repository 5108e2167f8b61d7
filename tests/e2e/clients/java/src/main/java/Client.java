import static software.amazon.awssdk.core.client.config.SdkAdvancedClientOption.DISABLE_HOST_PREFIX_INJECTION;

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
import java.util.List;
import java.util.function.Consumer;
import java.util.function.Function;
import software.amazon.awssdk.awscore.exception.AwsServiceException;
import software.amazon.awssdk.core.exception.SdkException;
import software.amazon.awssdk.services.eventbridge.EventBridgeClient;
import software.amazon.awssdk.services.eventbridge.model.PutEventsRequestEntry;
import software.amazon.awssdk.services.eventbridge.model.PutEventsResponse;
import software.amazon.awssdk.services.rum.RumClient;
import software.amazon.awssdk.services.rum.model.RumEvent;

/**
 * The program of tests/e2e/programs.py with the Java SDK v2. Its argument is the API.
 */
public final class Client {
  public static void main(String[] arguments) throws IOException {
    Function<JsonObject, JsonObject> call = arguments[0].equals("rum") ? putRumEvents() : putEvents();
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    BufferedReader calls = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = calls.readLine(); line != null; line = calls.readLine()) {
      out.println(new Gson().toJson(said(call, JsonParser.parseString(line).getAsJsonObject())));
    }
  }

  private static JsonObject said(Function<JsonObject, JsonObject> call, JsonObject params) {
    JsonObject line = new JsonObject();
    try {
      line.add("answer", call.apply(params));
    } catch (AwsServiceException error) {
      line.add("error", failure(error.awsErrorDetails().errorCode(), error.awsErrorDetails().errorMessage()));
    } catch (SdkException error) {
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
    EventBridgeClient client = EventBridgeClient.create();
    return params -> {
      PutEventsResponse response =
          client.putEvents(request -> request.entries(each(params.getAsJsonArray("Entries"), Client::entry)));
      JsonArray results = new JsonArray();
      response.entries().forEach(result -> {
        JsonObject made = new JsonObject();
        made.addProperty("EventId", result.eventId());
        made.addProperty("ErrorCode", result.errorCode());
        made.addProperty("ErrorMessage", result.errorMessage());
        results.add(made);
      });
      JsonObject answer = new JsonObject();
      answer.addProperty("FailedEntryCount", response.failedEntryCount());
      answer.add("Entries", results);
      return answer;
    };
  }

  private static PutEventsRequestEntry entry(JsonObject from) {
    PutEventsRequestEntry.Builder entry = PutEventsRequestEntry.builder();
    text(from, "Source", entry::source);
    text(from, "DetailType", entry::detailType);
    text(from, "Detail", entry::detail);
    text(from, "EventBusName", entry::eventBusName);
    text(from, "TraceHeader", entry::traceHeader);
    text(from, "Time", time -> entry.time(Instant.parse(time)));
    if (from.has("Resources")) {
      entry.resources(from.getAsJsonArray("Resources").asList().stream().map(JsonElement::getAsString).toList());
    }
    return entry.build();
  }

  private static Function<JsonObject, JsonObject> putRumEvents() {
    RumClient client =
        RumClient.builder()
            .overrideConfiguration(o -> o.putAdvancedOption(DISABLE_HOST_PREFIX_INJECTION, true))
            .build();
    return params -> {
      JsonObject monitor = params.getAsJsonObject("AppMonitorDetails");
      JsonObject user = params.getAsJsonObject("UserDetails");
      client.putRumEvents(request -> {
        text(params, "Id", request::id);
        text(params, "BatchId", request::batchId);
        text(params, "Alias", request::alias);
        request.appMonitorDetails(details -> {
          text(monitor, "id", details::id);
          text(monitor, "name", details::name);
          text(monitor, "version", details::version);
        });
        request.userDetails(details -> {
          text(user, "userId", details::userId);
          text(user, "sessionId", details::sessionId);
        });
        request.rumEvents(each(params.getAsJsonArray("RumEvents"), Client::rumEvent));
      });
      return new JsonObject();
    };
  }

  private static RumEvent rumEvent(JsonObject from) {
    RumEvent.Builder event = RumEvent.builder();
    text(from, "id", event::id);
    text(from, "timestamp", time -> event.timestamp(Instant.parse(time)));
    text(from, "type", event::type);
    text(from, "details", event::details);
    text(from, "metadata", event::metadata);
    return event.build();
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
