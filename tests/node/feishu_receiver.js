// A webhook made of @larksuiteoapi/node-sdk's dispatcher: prints its port, then every event that it accepts.
//
// node feishu_receiver.js ENCRYPT_KEY VERIFICATION_TOKEN, with NODE_PATH set to the folder of its modules.
"use strict";

const http = require("node:http");
const lark = require("@larksuiteoapi/node-sdk");

const [encryptKey, verificationToken] = process.argv.slice(2);
const quiet = () => {};
const logger = { error: quiet, warn: quiet, info: quiet, debug: quiet, trace: quiet };
const dispatcher = new lark.EventDispatcher({ encryptKey, verificationToken, logger }).register({
  "im.message.receive_v1": (event) => {
    process.stdout.write(`${JSON.stringify(event)}\n`);
  },
});
const answer = lark.adaptDefault("/hook", dispatcher, { autoChallenge: true });
const server = http.createServer((request, response) => {
  Promise.resolve(answer(request, response)).catch(() => {
    response.statusCode = 500;
    response.end();
  });
});
server.listen(0, "127.0.0.1", () => process.stdout.write(`${server.address().port}\n`));
