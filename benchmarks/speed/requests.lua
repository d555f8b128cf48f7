-- For wrk: predicts of a tenant and with a body that are drawn at random. Arguments: folder with the files
-- "tenants" (KEY TASK a line) and "bodies" (JSON a line), and a seed.
local tenants, bodies = {}, {}
local headers = { ["Content-Type"] = "application/json" }

function init(args)
   for line in io.lines(args[1] .. "/tenants") do
      local key, task = line:match("(%S+) (%S+)")
      tenants[#tenants + 1] = { "Bearer " .. key, "/v1/tasks/" .. task .. "/predict" }
   end
   for line in io.lines(args[1] .. "/bodies") do
      bodies[#bodies + 1] = line
   end
   math.randomseed(tonumber(args[2]))
end

function request()
   local tenant = tenants[math.random(#tenants)]
   headers["Authorization"] = tenant[1]
   return wrk.format("POST", tenant[2], headers, bodies[math.random(#bodies)])
end

function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format(
      'RESULT {"requests": %d, "duration_us": %d, "errors": %d, "p50_us": %f, "p90_us": %f, "p99_us": %f}\n',
      summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
      latency:percentile(50), latency:percentile(90), latency:percentile(99)))
end
