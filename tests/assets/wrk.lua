-- What every run of wrk in the benchmark does: nothing per request (a `request` or `response` function would run
-- for each and slow wrk down), and one line of JSON at the end in place of figures rounded for people.

-- Servers for the threads in turn: only the direct run has several, the others have one virtual address.
local targets = {}
for address in (os.getenv("LB_BENCH_TARGETS") or ""):gmatch("%S+") do
   targets[#targets + 1] = address
end

local threads = 0

function setup(thread)
   if #targets > 0 then
      thread.addr = wrk.lookup(targets[threads % #targets + 1], wrk.port or wrk.scheme)[1]
      threads = threads + 1
   end
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"errors":'
         .. '{"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
      errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
