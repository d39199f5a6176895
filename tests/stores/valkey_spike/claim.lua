-- The door `claim`: time acts, turns are taken, candidates are handed out.
local request = A.request
if not lives(request.engine) then return {{}, {}, 0, false, {}} end

local function head_due()
  local head = db('ZRANGE', 'timed', 0, 0, 'WITHSCORES')
  return head[1], tonumber(head[2])
end

local function promote()
  for _ = 1, 256 do
    local member, due = head_due()
    if not member or due > now then return end
    db('ZREM', 'timed', member)
    local id, ref = split(string.sub(member, 18))
    local r = run(id)
    if string.sub(member, 17, 17) == 'w' then
      local wait = r.waits[ref]
      wait.closed = true
      if #wait.candidates == 0 and #wait.unscanned == 0 then time_is_up(r, wait) end
    else
      local timer = r.timers[ref]
      r.timers[ref] = nil
      if timer.effect == CANCEL then
        cancel(r, ref)
      else
        fire(r, {ref = ref, cause = DUE, at = timer.due, timer = timer})
      end
    end
  end
end

local function hand_out()
  local out, more = {}, 0
  for _, member in ipairs(db('ZRANGE', 'candidates', 0, -1)) do
    local id, ref = split(string.sub(member, 17))
    local seq, wait = tonumber(string.sub(member, 1, 16)), run(id).waits[ref]
    for _, c in ipairs(wait.candidates) do
      if c.seq == seq and (not c.decider or c.decider == request.engine or not lives(c.decider)) then
        if #out == 256 then return out, 1 end
        c.decider = request.engine
        table.insert(out, {id, ref, wait.condition or '', event_out(seq)})
      end
    end
  end
  return out, more
end

promote()
local _, left = head_due()
local more = left and left <= now and 1 or 0
ripen_all()
local warm = take_best(request, 0)
local told_now = deliveries(request.engine, request.seen, warm)
local candidates, more_candidates = hand_out()
local _, due = head_due()
local later = tonumber(db('ZRANGE', 'later', 0, 0, 'WITHSCORES')[2])
if later and (not due or later < due) then due = later end
return {told_now, candidates, math.max(more, more_candidates), due or false, finish(request.engine)}
