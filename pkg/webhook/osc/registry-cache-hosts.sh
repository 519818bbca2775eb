#!/bin/bash
#
# Makes containerd use a registry cache while the cache responds.
#
# Containerd reads hosts.toml for each pull. The script installs the hosts.toml of each cache while the cache responds,
# and removes it while the cache does not, so that containerd pulls from the upstream at once.
#
# It changes only files that begin with the marker: others belong to gardener-node-agent or to other programs.

set -o nounset

# The directory has the file "caches", with the lines UPSTREAM HOST PORT, and UPSTREAM.toml for each of them.
readonly caches=${REGISTRY_CACHE_DIRECTORY:-/etc/containerd/registry-cache}
readonly registries=${REGISTRIES_DIRECTORY:-/etc/containerd/certs.d}
# A hosts.toml is complete before it has its name.
readonly copy=$registries/.registry-cache-hosts.toml
readonly unit=registry-cache-hosts.service
readonly marker="# managed by $unit"

# A cache fails a check if it does not respond within this number of hundredths of a second: longer than the second
# after which the kernel repeats a lost packet, and shorter than a pull should wait.
readonly patience=120
# If a busy node cannot begin all checks within this number of hundredths of a second, those without a result do not
# count as failures.
readonly max_start=1000
# Connections to a cache that does not respond are ended for this number of checks. After that, no pull has any left.
readonly max_ends=60

upstreams=() hosts=() ports=()
declare -A problems=()

read_caches() {
  local upstream host port
  while read -r upstream host port; do
    upstreams+=("$upstream") hosts+=("$host") ports+=("$port")
  done <"$caches/caches"
}

# is_ours FILE
is_ours() {
  local line=
  { IFS= read -r line <"$1"; } 2>/dev/null
  [[ $line == "$marker" ]]
}

# install_hosts UPSTREAM
install_hosts() {
  local directory=$registries/$1 problem
  [[ -e $directory/hosts.toml ]] && return
  # A link appears complete, and never replaces a file of others.
  if problem=$({ cp "$caches/$1.toml" "$copy" && mkdir -p "$directory" && ln -T "$copy" "$directory/hosts.toml"; } 2>&1); then
    echo "Using the cache for $1"
  elif [[ $problem != "${problems[$1]-}" ]]; then
    echo "Cannot use the cache for $1: $problem" >&2
  fi
  problems[$1]=$problem
  rm -f "$copy"
  drop_empty "$directory"
}

# remove_hosts UPSTREAM
remove_hosts() {
  local directory=$registries/$1
  is_ours "$directory/hosts.toml" || return 0
  rm -f "$directory/hosts.toml" && echo "Pulling images of $1 from the upstream"
  drop_empty "$directory"
}

# drop_empty DIRECTORY removes an empty directory: it would hide the hosts for all upstreams.
drop_empty() {
  rmdir --ignore-fail-on-non-empty "$1" 2>/dev/null
}

# tidy removes what an interrupted installation has left.
tidy() {
  local upstream
  rm -f "$copy"
  for upstream in "${upstreams[@]}"; do
    drop_empty "$registries/$upstream"
  done
}

# installed prints the upstreams whose hosts.toml is ours.
installed() {
  local file
  for file in "$registries"/*/hosts.toml; do
    file=${file%/hosts.toml}
    is_ours "$file/hosts.toml" && echo "${file##*/}"
  done
}

remove_all() {
  local upstream
  for upstream in $(installed); do
    remove_hosts "$upstream"
  done
}

# update_all replaces each installed hosts.toml that has changed, and removes those without a cache. There is always one
# in between: without it, pulls that only the credential of the cache allows would fail.
update_all() {
  local upstream directory
  for upstream in $(installed); do
    directory=$registries/$upstream
    if [[ " ${upstreams[*]} " != *" $upstream "* ]]; then
      remove_hosts "$upstream"
    elif [[ $(<"$directory/hosts.toml") != "$(<"$caches/$upstream.toml")" ]]; then
      if ! cp "$caches/$upstream.toml" "$copy" || ! mv -T "$copy" "$directory/hosts.toml"; then
        remove_hosts "$upstream"
      fi
    fi
  done
}

# ask HOST PORT sends a request to which a server responds at once: one with TLS refuses a request without.
ask() {
  exec 3<>"/dev/tcp/$1/$2" && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && read -rn 5 -u 3 && [[ $REPLY == HTTP/ ]]
}

# check prints a line "PID INDEX" for each cache when its check begins, and then "up INDEX" or "down INDEX".
check() {
  local i
  for i in "${!upstreams[@]}"; do
    {
      echo "$BASHPID $i"
      if ask "${hosts[i]}" "${ports[i]}"; then echo "up $i"; else echo "down $i"; fi
    } &
  done
  wait
}

# end_stalled HOST PORT ends the connections of the node to a cache that have received nothing for at least a second. If
# containerd waits for the connection or a response, it goes on to the upstream. If it reads content, the pull fails,
# and the kubelet tries again. By itself, containerd would wait for minutes.
end_stalled() {
  local host=$1 state received sent source rest
  [[ $host != *:* ]] || host="[$host]"
  ss -HOtin state connected dst "$host" dport = ":$2" | while read -r state received sent source rest; do
    if [[ $state == SYN-SENT || $rest =~ lastrcv:[0-9]{4} ]]; then
      ss -Kt dst "$host" dport = ":$2" sport = ":${source##*:}" >/dev/null
    fi
  done
} 2>/dev/null

# read_uptime sets uptime, in hundredths of a second since the boot. Unlike the time of day, it cannot be set.
read_uptime() {
  read -r uptime _ </proc/uptime
  uptime=$((10#${uptime/./}))
}

# read_result DEADLINE reads a line of the checks into word and i. It fails if there is none by that uptime. After it,
# lines that have arrived are still read.
read_result() {
  local uptime left timeout
  read_uptime
  left=$(($1 > uptime ? $1 - uptime : 1))
  printf -v timeout '%d.%02d' $((left / 100)) $((left % 100))
  read -rt "$timeout" -u 4 word i
}

watch() {
  local failures=() pids begun uptime deadline word i pause
  for i in "${!upstreams[@]}"; do
    failures[i]=0
  done
  while true; do
    pids=() begun=0
    read_uptime
    deadline=$((uptime + max_start))
    exec 4< <(check 2>/dev/null)
    while read_result "$deadline"; do
      case $word in
      up) unset "pids[i]" && failures[i]=0 && install_hosts "${upstreams[i]}" ;;
      down) unset "pids[i]" && ((failures[i] += 1)) ;;
      *)
        pids[i]=$word && ((begun += 1))
        # The limit is for all checks together: a late response of one cache must not prolong the wait for another.
        if ((begun == ${#upstreams[@]})); then
          read_uptime
          deadline=$((uptime + patience))
        fi
        ;;
      esac
    done
    exec 4<&-
    # Those that have not responded in time.
    for i in "${!pids[@]}"; do
      kill "${pids[i]}" 2>/dev/null
      ((begun < ${#upstreams[@]})) || ((failures[i] += 1))
    done

    pause=2
    for i in "${!upstreams[@]}"; do
      ((failures[i] == 0)) || pause=.5
      ((failures[i] >= 2)) || continue
      remove_hosts "${upstreams[i]}"
      ((failures[i] > max_ends)) || end_stalled "${hosts[i]}" "${ports[i]}"
    done
    sleep "$pause"
  done
}

case ${1-} in
watch)
  mkdir -p "$registries"
  read_caches
  # An earlier run may have left files.
  tidy
  update_all
  watch
  ;;
stop)
  # Systemd stops a unit that it starts again, and gardener-node-agent disables one before it removes it.
  read_caches
  tidy
  if systemctl is-enabled --quiet "$unit"; then
    update_all
  else
    remove_all
  fi
  ;;
*)
  echo "usage: $0 watch | stop" >&2
  exit 2
  ;;
esac
