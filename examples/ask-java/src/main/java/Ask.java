import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Asks one question and waits for the reply: {@code java -cp 'target/classes:target/lib/*' Ask "a question"}.
 *
 * <p>Exit codes: 0 answered, 1 the query failed, 2 no reply in time.
 */
public final class Ask {
    private static final ObjectMapper JSON = new ObjectMapper();

    private static final String BROKERS = env("RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS", "localhost:9092");
    private static final String QUERY_TOPIC = env("RERANK_WORKER_KAFKA__QUERY_TOPIC", "rag.queries");
    private static final String REPLY_TOPIC = env("REPLY_TOPIC", "rag.replies");
    private static final Duration DEADLINE = Duration.ofSeconds(Long.parseLong(env("DEADLINE_S", "60")));

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 1) {
            System.err.println("usage: Ask \"a question\"");
            System.exit(64);
        }
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "warn");
        Optional<JsonNode> reply = ask(arguments[0]);
        if (reply.isEmpty()) {
            System.err.printf(
                    "no reply within %d s: does a worker run that has %s among its kafka.reply_topics?%n",
                    DEADLINE.toSeconds(), REPLY_TOPIC);
            System.exit(2);
        }
        if (reply.get().path("status").asText().equals("failed")) {
            JsonNode failure = reply.get().path("failure");
            System.err.printf(
                    "failed (%s, %s): %s%n",
                    failure.path("code").asText(), failure.path("kind").asText(), failure.path("reason").asText());
            System.exit(1);
        }
        print(reply.get());
    }

    /** Returns the first reply to the question; empty at the deadline. */
    private static Optional<JsonNode> ask(String question) throws Exception {
        String id = UUID.randomUUID().toString();
        createIfMissing(REPLY_TOPIC);
        try (var consumer = new KafkaConsumer<>(consumerConfig(), new StringDeserializer(), new ByteArrayDeserializer());
                var producer = new KafkaProducer<>(producerConfig(), new StringSerializer(), new ByteArraySerializer())) {
            // No group: every asker reads the whole reply topic and picks what is its own.
            List<TopicPartition> partitions = consumer.partitionsFor(REPLY_TOPIC).stream()
                    .map(partition -> new TopicPartition(partition.topic(), partition.partition()))
                    .toList();
            consumer.assign(partitions);
            consumer.seekToEnd(partitions);
            // Asked for now, before anything else is: a reply right after its question must not be missed.
            partitions.forEach(consumer::position);

            producer.send(query(id, question)).get();
            long end = System.nanoTime() + DEADLINE.toNanos();
            while (System.nanoTime() < end) {
                for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    // At least once: a reply may come twice, and the first one settles it. Others' replies pass by.
                    var correlation = record.headers().lastHeader("correlation-id");
                    if (correlation != null && id.equals(new String(correlation.value(), StandardCharsets.UTF_8))) {
                        return Optional.of(JSON.readTree(record.value()));
                    }
                }
            }
            return Optional.empty();
        }
    }

    private static ProducerRecord<String, byte[]> query(String id, String question) throws Exception {
        ObjectNode event = JSON.createObjectNode();
        event.put("id", id).put("text", question).put("deadline_ms", DEADLINE.toMillis());
        if (System.getenv("COLLECTION") != null) {
            event.put("collection", System.getenv("COLLECTION"));
        }
        // The default partitioner (murmur2 of the key) is the worker's too: the answer's partition follows from the key.
        var record = new ProducerRecord<>(QUERY_TOPIC, id, JSON.writeValueAsBytes(event));
        record.headers().add("correlation-id", id.getBytes(StandardCharsets.UTF_8));
        record.headers().add("reply-topic", REPLY_TOPIC.getBytes(StandardCharsets.UTF_8));
        return record;
    }

    private static void createIfMissing(String topic) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", BROKERS))) {
            if (!admin.listTopics().names().get().contains(topic)) {
                admin.createTopics(List.of(new NewTopic(topic, Optional.empty(), Optional.empty()))).all().get();
            }
        }
    }

    private static Map<String, Object> consumerConfig() {
        // Of a worker that delivers exactly once, this shows each answer once.
        return Map.of("bootstrap.servers", BROKERS, "isolation.level", "read_committed", "enable.auto.commit", false);
    }

    private static Map<String, Object> producerConfig() {
        return Map.of("bootstrap.servers", BROKERS, "client.id", "ask-java");
    }

    private static void print(JsonNode reply) {
        String status = reply.path("status").asText();
        if (!status.equals("ok")) {
            reply.path("degradations").forEach(each -> System.out.print(each.path("code").asText() + " "));
            System.out.println(status);
        }
        if (reply.hasNonNull("answer")) {
            System.out.println(reply.path("answer").path("text").asText());
        }
        int number = 0;
        for (JsonNode context : reply.path("contexts")) {
            System.out.printf("[%d] %s%n", ++number, context.path("document_id").asText());
        }
    }

    private static String env(String name, String otherwise) {
        return Optional.ofNullable(System.getenv(name)).orElse(otherwise);
    }
}
