import java.io.FileReader;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/** One message by Java's own client, which is told what stands in a file of properties. */
class Send {
    public static void main(String[] arguments) throws Exception {
        var properties = new Properties();
        try (var file = new FileReader(arguments[0])) {
            properties.load(file);
        }
        var text = new StringSerializer();
        try (var producer = new KafkaProducer<>(properties, text, text)) {
            producer.send(new ProducerRecord<>("invoices", arguments[1])).get();
        }
    }
}
