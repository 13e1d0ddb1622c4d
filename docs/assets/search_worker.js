// A worker made of a hidden frame, for pages opened from a folder, where browsers start no workers; the search runs in it.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.appendChild(this.frame);
      window.addEventListener("message", (event) => {
        if (event.source !== this.frame.contentWindow) return;
        const message = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(message);
        if (this.onmessage) this.onmessage(message);
      });
      this.ready = new Promise((resolve) => { this.frame.onload = resolve; });
      const page = this.frame.contentWindow.document;
      page.open();
      page.write(
        "<html><body><script>" +
        "postMessage = (data) => parent.postMessage(data, '*');" +
        "importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((loaded) => {" +
        "const script = document.createElement('script'); script.src = url; script.onload = loaded;" +
        "document.body.appendChild(script); })), Promise.resolve());" +
        "</" + "script><script src='" + url + "'></" + "script></body></html>"
      );
      page.close();
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data: structuredClone(data) })));
    }
    terminate() { this.frame.remove(); }
  };
  window.Worker = window.IFrameWorker;
}
