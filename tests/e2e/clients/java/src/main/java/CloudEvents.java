import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import io.cloudevents.CloudEvent;
import io.cloudevents.core.builder.CloudEventBuilder;
import io.cloudevents.http.HttpMessageFactory;
import io.cloudevents.http.impl.HttpMessageWriter;
import io.cloudevents.jackson.JsonFormat;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.OffsetDateTime;
import java.util.Base64;
import java.util.Map;

/**
 * Sends events with the CloudEvents SDK for Java; its order and what it heard are those of send.py.
 *
 * <p>The SDK makes headers and a body, and a program brings the HTTP client: {@code HttpURLConnection}, as in
 * the SDK's examples; with {@code HttpClient} behind the mode, Java's newer one. The SDK makes no batches.
 */
public final class CloudEvents {
  private interface Sender {
    /** The SDK writes an event into the request that the writer stands for; the answer to it. */
    JsonObject send(JsonObject order, CloudEvent event, boolean isBinary) throws Exception;
  }

  public static void main(String[] arguments) throws Exception {
    JsonObject order =
        JsonParser.parseReader(new InputStreamReader(System.in, StandardCharsets.UTF_8)).getAsJsonObject();
    String mode = order.get("mode").getAsString();
    Sender sender = mode.endsWith("HttpClient") ? CloudEvents::byHttpClient : CloudEvents::byUrlConnection;
    JsonArray answers = new JsonArray();
    for (JsonElement each : order.getAsJsonArray("events")) {
      answers.add(answered(sender, order, made(each.getAsJsonObject()), mode.startsWith("binary")));
      Thread.sleep((long) (1000 * order.get("pause").getAsDouble()));
    }
    new PrintStream(System.out, true, StandardCharsets.UTF_8).print(new Gson().toJson(answers));
  }

  private static CloudEvent made(JsonObject event) {
    CloudEventBuilder builder = CloudEventBuilder.v1();
    for (Map.Entry<String, JsonElement> each : event.getAsJsonObject("attributes").entrySet()) {
      set(builder, each.getKey(), each.getValue().getAsJsonPrimitive());
    }
    byte[] data = data(event);
    return (data == null ? builder : builder.withData(data)).build();
  }

  private static void set(CloudEventBuilder builder, String name, JsonPrimitive value) {
    switch (name) {
      case "specversion" -> {}
      case "id" -> builder.withId(value.getAsString());
      case "source" -> builder.withSource(URI.create(value.getAsString()));
      case "type" -> builder.withType(value.getAsString());
      case "subject" -> builder.withSubject(value.getAsString());
      case "time" -> builder.withTime(OffsetDateTime.parse(value.getAsString()));
      case "dataschema" -> builder.withDataSchema(URI.create(value.getAsString()));
      case "datacontenttype" -> builder.withDataContentType(value.getAsString());
      default -> {
        if (value.isNumber()) builder.withExtension(name, value.getAsInt());
        else if (value.isBoolean()) builder.withExtension(name, value.getAsBoolean());
        else builder.withExtension(name, value.getAsString());
      }
    }
  }

  private static byte[] data(JsonObject event) {
    if (event.has("base64")) return Base64.getDecoder().decode(event.get("base64").getAsString());
    JsonElement data = event.get("data");
    if (data == null) return null;
    boolean isText = data.isJsonPrimitive() && data.getAsJsonPrimitive().isString();
    String text = isText ? data.getAsString() : new Gson().newBuilder().serializeNulls().create().toJson(data);
    return text.getBytes(StandardCharsets.UTF_8);
  }

  private static JsonObject answered(Sender sender, JsonObject order, CloudEvent event, boolean isBinary)
      throws Exception {
    double ends = System.nanoTime() + 1e9 * order.get("patience").getAsDouble();
    for (int tries = 1; ; tries++) {
      JsonObject answer = tried(sender, order, event, isBinary);
      int status = answer.get("status").getAsInt();
      if ((status != 0 && status != 429 && status != 503) || System.nanoTime() > ends) {
        answer.addProperty("tries", tries);
        return answer;
      }
      JsonElement wait = answer.getAsJsonObject("headers").get("retry-after");
      Thread.sleep(wait == null ? 100 : 1000 * wait.getAsLong());
    }
  }

  private static JsonObject tried(Sender sender, JsonObject order, CloudEvent event, boolean isBinary)
      throws Exception {
    try {
      return sender.send(order, event, isBinary);
    } catch (IOException problem) {
      return answer(0, new JsonObject(), problem.toString().getBytes(StandardCharsets.UTF_8));
    }
  }

  private static void write(HttpMessageWriter writer, CloudEvent event, boolean isBinary) {
    if (isBinary) writer.writeBinary(event);
    else writer.writeStructured(event, new JsonFormat());
  }

  private static Map<String, JsonElement> headersOf(JsonObject order) {
    return order.has("headers") ? order.getAsJsonObject("headers").asMap() : Map.of();
  }

  private static JsonObject byUrlConnection(JsonObject order, CloudEvent event, boolean isBinary)
      throws IOException {
    HttpURLConnection request = (HttpURLConnection) new URL(order.get("url").getAsString()).openConnection();
    request.setRequestMethod("POST");
    request.setDoOutput(true);
    headersOf(order).forEach((name, value) -> request.setRequestProperty(name, value.getAsString()));
    try {
      write(
          HttpMessageFactory.createWriter(request::setRequestProperty, body -> post(request, body)),
          event,
          isBinary);
    } catch (UncheckedIOException problem) {
      throw problem.getCause();
    }
    JsonObject headers = new JsonObject();
    request.getHeaderFields().forEach((name, values) -> {
      if (name != null) headers.addProperty(name.toLowerCase(), values.get(0));
    });
    int status = request.getResponseCode();
    try (InputStream body = status < 400 ? request.getInputStream() : request.getErrorStream()) {
      return answer(status, headers, body == null ? new byte[0] : body.readAllBytes());
    }
  }

  private static void post(HttpURLConnection request, byte[] body) {
    try (OutputStream out = request.getOutputStream()) {
      if (body != null) out.write(body);
    } catch (IOException problem) {
      throw new UncheckedIOException(problem);
    }
  }

  private static final HttpClient CLIENT = HttpClient.newHttpClient();

  private static JsonObject byHttpClient(JsonObject order, CloudEvent event, boolean isBinary)
      throws IOException, InterruptedException {
    HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(order.get("url").getAsString()));
    headersOf(order).forEach((name, value) -> request.setHeader(name, value.getAsString()));
    write(
        HttpMessageFactory.createWriter(
            request::setHeader,
            body -> request.POST(HttpRequest.BodyPublishers.ofByteArray(body == null ? new byte[0] : body))),
        event,
        isBinary);
    HttpResponse<byte[]> said = CLIENT.send(request.build(), HttpResponse.BodyHandlers.ofByteArray());
    JsonObject headers = new JsonObject();
    said.headers().map().forEach((name, values) -> headers.addProperty(name, values.get(0)));
    return answer(said.statusCode(), headers, said.body());
  }

  private static JsonObject answer(int status, JsonObject headers, byte[] body) {
    JsonObject answer = new JsonObject();
    answer.addProperty("status", status);
    answer.add("headers", headers);
    answer.addProperty("body", new String(body, StandardCharsets.UTF_8));
    return answer;
  }
}
