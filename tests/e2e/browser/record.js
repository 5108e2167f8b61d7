// Runs in a page before anything else: notes every request to RUM's path as it leaves, body and all, and what
// became of it. In the storage of the origin, so that the next page can tell what the last one sent.
(() => {
  const toBase64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
  const all = () => JSON.parse(localStorage.getItem('sent') ?? '[]');
  const keep = (sent) => localStorage.setItem('sent', JSON.stringify(sent));
  const note = (entry) => {
    const sent = all();
    keep([...sent, entry]);
    return sent.length;
  };
  const tell = (number, outcome) => {
    const sent = all();
    sent[number].outcome = outcome;
    keep(sent);
  };
  const isRum = (url) => String(url).includes('/appmonitors/');

  const send = window.fetch;
  window.fetch = async (input, init) => {
    if (!isRum(input.url ?? input)) return send.call(window, input, init);
    const request = new Request(input, init);
    const body = toBase64(new Uint8Array(await request.clone().arrayBuffer()));
    const number = note({ by: 'fetch', url: request.url, headers: Object.fromEntries(request.headers), body });
    try {
      const answer = await send.call(window, request);
      const shown = ['x-amzn-requestid', 'x-amzn-errortype', 'retry-after'];
      const headers = Object.fromEntries(shown.map((name) => [name, answer.headers.get(name)]));
      tell(number, { status: answer.status, headers });
      return answer;
    } catch (error) {
      tell(number, { error: String(error) });
      throw error;
    }
  };

  const beacon = navigator.sendBeacon;
  navigator.sendBeacon = (url, body) => {
    if (!isRum(url)) return beacon.call(navigator, url, body);
    const queued = beacon.call(navigator, url, body);
    note({ by: 'beacon', url: String(url), headers: {}, body: toBase64(new TextEncoder().encode(body)), outcome: { queued } });
    return queued;
  };
})();
