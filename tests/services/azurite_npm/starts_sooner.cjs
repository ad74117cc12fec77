// Two thirds of Azurite's start is loading the telemetry that --disableTelemetry then leaves unused, and most of the
// rest is compiling its files, as each process that is killed has done for nobody after it.
const Module = require("node:module");
const { join } = require("node:path");
const load = Module._load;
Module._load = (name, ...rest) => (name === "applicationinsights" ? {} : load(name, ...rest));
Module.enableCompileCache(join(__dirname, "compiled"));
setTimeout(() => Module.flushCompileCache?.(), 2000).unref();
