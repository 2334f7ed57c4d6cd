import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Supplier;
import java.util.stream.Collectors;

/** The loop of both Java clients: one request per line, one JSON line per response (see ../request_loop.py). */
final class RequestLoop {
  private RequestLoop() {}

  /** Responds to requests until stdin ends. */
  static void loop(Map<String, Supplier<Map<String, String>>> handlers) {
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    try {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        System.out.println(json(respond(handlers.get(line.trim()))));
      }
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  /** Returns a response with credentials. */
  static Map<String, String> credentials(String accessKeyId, String secretAccessKey, String sessionToken) {
    Map<String, String> members = new LinkedHashMap<>();
    members.put("accessKeyId", accessKeyId);
    members.put("secretAccessKey", secretAccessKey);
    members.put("sessionToken", sessionToken);
    return members;
  }

  private static Map<String, String> respond(Supplier<Map<String, String>> handler) {
    try {
      return handler.get();
    } catch (RuntimeException error) {
      // The text that Java prints for an uncaught exception.
      StringWriter trace = new StringWriter();
      error.printStackTrace(new PrintWriter(trace));
      return Map.of("error", trace.toString());
    }
  }

  private static String json(Map<String, String> members) {
    return members.entrySet().stream()
        .map(entry -> quoted(entry.getKey()) + ": " + quoted(entry.getValue()))
        .collect(Collectors.joining(", ", "{", "}"));
  }

  private static String quoted(String text) {
    return text.chars()
        .mapToObj(c -> c < ' ' || c == '"' || c == '\\' ? String.format("\\u%04x", c) : Character.toString((char) c))
        .collect(Collectors.joining("", "\"", "\""));
  }
}
