"""The steps of `slot` in Lua, so that Redis takes each as a whole. Times are milliseconds of Redis' own clock.

KEYS[1] is the token, with its end as the key's own expiry; KEYS[2] is the rest of the slot, which outlives it.
"""

from typing import Final

from proxy.stores import LEASE

FORGET: Final = 86_400_000
"""Milliseconds after the last step when an account is forgotten: fences grow on, for they begin at the clock."""

_BEGIN: Final = f"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kept = redis.call('HMGET', KEYS[1], 'record', 'mark', 'expires_at_ms')
local left = redis.call('PTTL', KEYS[1])
local found = redis.call('HMGET', KEYS[2],
  'owner', 'fence', 'leased', 'called', 'rests', 'failures', 'strikes', 'struck')
local owner, fence = found[1] or '', tonumber(found[2] or 0)
local leased, called, rests = tonumber(found[3] or 0), tonumber(found[4] or 0), tonumber(found[5] or 0)
local failures, strikes, struck = tonumber(found[6] or 0), tonumber(found[7] or 0), tonumber(found[8] or 0)
if called > now then -- Redis' clock was set back: nobody waits for the old time to come again
  leased, rests, called = 0, 0, now
end
local function is_of(by, number) return owner == by and fence == tonumber(number) end
local function save()
  local function text(number) return string.format('%.0f', number) end
  redis.call('HSET', KEYS[2], 'owner', owner, 'fence', text(fence), 'leased', text(leased), 'called', text(called),
    'rests', text(rests), 'failures', text(failures), 'strikes', text(strikes), 'struck', text(struck))
  redis.call('PEXPIRE', KEYS[2], {FORGET})
end
"""

GET: Final = f"""{_BEGIN}
if not kept[1] then return false end
return {{kept[1], left}}
"""

CLAIM: Final = f"""{_BEGIN}
-- owner, mark of the worn token, gap
if kept[1] and kept[2] ~= ARGV[2] then return {{'kept', kept[1], kept[2], left}} end
local again = owner == ARGV[1] and now < leased
if not again then
  if owner ~= '' and now < leased then return {{'held', 'call', leased - now}} end
  if now < rests then return {{'held', failures > 0 and 'failure' or 'gap', rests - now}} end
end
owner, fence = ARGV[1], math.max(fence + 1, time[1] * 1000000 + time[2])
leased, called, rests = now + {LEASE * 1000:.0f}, now, now + tonumber(ARGV[3])
if struck == 0 then strikes = 0 end
save()
return {{'lease', fence, failures, now}}
"""

RENEW: Final = f"""{_BEGIN}
-- owner, fence
if not is_of(ARGV[1], ARGV[2]) then return 0 end
leased = now + {LEASE * 1000:.0f}
save()
return 1
"""

PUT: Final = f"""{_BEGIN}
-- owner, fence, record, mark, expires_at_ms, end
local mine = is_of(ARGV[1], ARGV[2])
if not mine and kept[1] and tonumber(ARGV[5]) <= tonumber(kept[3]) then return {{kept[1], left}} end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'record', ARGV[3], 'mark', ARGV[4], 'expires_at_ms', ARGV[5])
redis.call('PEXPIREAT', KEYS[1], ARGV[6])
if mine then
  owner, failures, struck = '', 0, 0
  save()
end
return false
"""

RELEASE: Final = f"""{_BEGIN}
-- owner, fence, rest or nothing
if not is_of(ARGV[1], ARGV[2]) then return 0 end
owner = ''
if ARGV[3] ~= '' then
  failures, rests = failures + 1, math.max(rests, now + tonumber(ARGV[3]))
end
save()
return 1
"""

DROP: Final = f"""{_BEGIN}
-- mark, whether it was refused
if not kept[1] or kept[2] ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if ARGV[2] == '1' and now - called < left then
  strikes, struck = strikes + 1, 1
else
  strikes, struck = 0, 0
end
save()
return strikes
"""
