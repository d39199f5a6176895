-- The door `admit`: a batch of admissions; then turns that it queued may be claimed at once.
local since, request, out, told_now = count('jobs'), A.request, {}, {}
for _, a in ipairs(A.admissions) do
  table.insert(out, outdated(a) and {2, count('version')} or admit_one(a, request and request.engine))
end
if request and lives(request.engine) then
  ripen_all()
  local warm = take_best(request, since)
  told_now = deliveries(request.engine, engine(request.engine).told, warm)
end
return answer({out, told_now, finish(request and request.engine)})
