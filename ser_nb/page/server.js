"use strict";
// What the page asks the recogniser, one question at a time; a new question ends what is still being answered.

// `post` sends an answer; the function that comes back takes a question.
function server(post) {
  let recognizer = null, current = 0;
  const pause = () => new Promise(done => setTimeout(done));
  const tasks = {
    open: ({ description, bytes }) => {
      recognizer = new Recognizer(description, bytes);
      post({ id: 0, ready: true });
    },
    teach: ({ id, samples, rate, label }) => post({ id, answer: recognizer.teach(samples, rate, label), done: true }),
    restore: ({ id, clips }) => post({ id, answer: recognizer.taught([...recognizer.voice.clips, ...clips]), done: true }),
    clip: ({ id, samples, rate }) => post({ id, answer: recognizer.predict(samples, rate), done: true }),
    along: async ({ id, samples, rate }) => {
      for (const part of recognizer.timeline(samples, rate)) {
        post({ id, part });
        await pause();
        if (id !== current) return;
      }
      post({ id, done: true });
    },
  };
  return question => {
    current = question.id ?? current;
    return tasks[question.task](question);
  };
}
