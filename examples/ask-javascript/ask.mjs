// Asks one question and waits for the reply: node ask.mjs "What is committed after a crash?"
// Exit codes: 0 answered, 1 the query failed, 2 no reply in time.
import { randomUUID } from "node:crypto";
import { Kafka, Partitioners, logLevel } from "kafkajs";

const env = process.env;
const brokers = (env.RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS ?? "localhost:9092").split(",");
const queryTopic = env.RERANK_WORKER_KAFKA__QUERY_TOPIC ?? "rag.queries";
const replyTopic = env.REPLY_TOPIC ?? "rag.replies";
const deadlineMs = Number(env.DEADLINE_S ?? 60) * 1000;
const query = { id: randomUUID(), text: process.argv[2], deadline_ms: deadlineMs };
if (env.COLLECTION) query.collection = env.COLLECTION;
if (!query.text) {
  console.error('usage: node ask.mjs "a question"');
  process.exit(64);
}

const kafka = new Kafka({ clientId: "ask-javascript", brokers, logLevel: logLevel.ERROR });
const admin = kafka.admin();
// The same partitioner as Java's, so that a key has one partition whoever writes it.
const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
// A group of its own: every asker reads the whole reply topic and picks what is its own. It leaves no commits behind.
const consumer = kafka.consumer({ groupId: `ask-${query.id}` });

try {
  const reply = await ask();
  if (reply === null) {
    console.error(`no reply within ${deadlineMs / 1000} s: does a worker run that has ${replyTopic} among its kafka.reply_topics?`);
    process.exitCode = 2;
  } else if (reply.status === "failed") {
    console.error(`failed (${reply.failure.code}, ${reply.failure.kind}): ${reply.failure.reason}`);
    process.exitCode = 1;
  } else {
    print(reply);
  }
} finally {
  await Promise.all([admin, producer, consumer].map((client) => client.disconnect()));
}

/** Returns the first reply to the query, or null at the deadline. */
async function ask() {
  await Promise.all([admin, producer, consumer].map((client) => client.connect()));
  if (!(await admin.listTopics()).includes(replyTopic)) {
    await admin.createTopics({ topics: [{ topic: replyTopic }], waitForLeaders: true });
  }
  // Where the topic ends now, before anything is asked: a reply right after its question must not be missed.
  const ends = await admin.fetchTopicOffsets(replyTopic);

  let timer;
  const replied = new Promise((resolve, reject) => {
    timer = setTimeout(() => resolve(null), deadlineMs);
    const eachMessage = async ({ message }) => {
      // At least once: a reply may come twice, and the first one settles it. Other askers' replies pass by.
      if (message.headers["correlation-id"]?.toString() === query.id) {
        resolve(JSON.parse(message.value));
      }
    };
    consumer
      .subscribe({ topic: replyTopic })
      .then(() => consumer.run({ autoCommit: false, eachMessage }))
      .then(() => ends.forEach(({ partition, high }) => consumer.seek({ topic: replyTopic, partition, offset: high })))
      .then(() => producer.send({ topic: queryTopic, messages: [question()] }))
      .catch(reject);
  });
  return replied.finally(() => clearTimeout(timer));
}

function question() {
  const headers = { "correlation-id": query.id, "reply-topic": replyTopic };
  return { key: query.id, value: JSON.stringify(query), headers };
}

function print({ status, answer, contexts, degradations }) {
  if (status !== "ok") console.log([status, ...degradations.map((each) => each.code)].join(" "));
  if (answer) console.log(answer.text);
  contexts.forEach((context, index) => console.log(`[${index + 1}] ${context.document_id}`));
}
