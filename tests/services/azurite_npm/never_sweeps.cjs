// Azurite looks after ten minutes for data that no blob has any more, in a time that grows with its square: for more
// than a minute it answered nobody. It has no option for that; the tests are done and its memory free long before.
const { dirname, join } = require("node:path");
require(join(dirname(process.argv[1]), "utils", "constants.js")).DEFAULT_GC_INTERVAL_MS = 2 ** 31 - 1;
