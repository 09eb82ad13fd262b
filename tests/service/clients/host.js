// node --require ./host.js: clients that ask remove.bg through unirest ask REMOVEBG_HOST instead.
"use strict";

const unirest = require("unirest");

const post = unirest.post;
unirest.post = (url, ...rest) =>
  post(url.replace("https://api.remove.bg", process.env.REMOVEBG_HOST), ...rest);
