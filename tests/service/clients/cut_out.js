// KEY PICTURE RESULT: one picture through the npm package remove.bg, as its own README does it.
"use strict";

const { removeBackgroundFromImageFile } = require("remove.bg");

const [apiKey, path, outputFile] = process.argv.slice(2);
removeBackgroundFromImageFile({ path, apiKey, outputFile, size: "full", crop: true, crop_margin: "10%" })
  .then(({ base64img, ...facts }) => console.log(JSON.stringify(facts)))
  .catch((errors) => {
    console.log(JSON.stringify(errors));
    process.exitCode = 1;
  });
