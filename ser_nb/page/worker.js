"use strict";
const answerQuestion = server(message => self.postMessage(message));
self.onmessage = ({ data }) => answerQuestion(data);
