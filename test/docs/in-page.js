/** Runs in the page: what the browser made of it. Plain JavaScript, for it is handed over as text. */
globalThis.siteCheck = {
  /** What the page is made of. */
  look() {
    const all = selector => Array.from(document.querySelectorAll(selector))
    const blocks = all('pre > code').filter(code => /\b(ts|js|json|typescript)\b/.test(code.className))
    const coloured = blocks.filter(code => code.querySelector('span[class^="hl-"]') !== null).length
    return {
      links: all('a[href]').map(link => link.href),
      ids: all('[id], a[name]').map(element => element.id || (element.getAttribute('name') ?? '')),
      heading: document.querySelector('h1')?.textContent.trim() ?? '',
      tables: all('table').length,
      colouredCode: coloured,
      plainCode: blocks.length - coloured,
      codeColumns: columnsOf(document.querySelector('pre > code')),
    }
  },

  /** What reaches beyond the right edge and cannot be scrolled to within a box of its own. */
  overflowing() {
    const width = document.documentElement.clientWidth
    const page = document.documentElement.scrollWidth
    const found = Array.from(document.querySelectorAll('body *')).filter(element => {
      const box = element.getBoundingClientRect()
      return box.width > 0 && box.height > 0 && box.right > width + 1 && !inScroller(element)
    })
    if (found.length === 0 && page <= width) return []
    const shown = found
      .slice(0, 3)
      .map(
        ({ tagName, className, textContent }) =>
          `${tagName}.${className} "${textContent.trim().slice(0, 40)}"`,
      )
    return [`the page is ${page} wide; ${found.length} elements reach out: ${shown.join(', ')}`]
  },
}

/** How many characters of the page's code fit into its box, as the browser measures them. */
function columnsOf(code) {
  if (code === null) return undefined
  const style = getComputedStyle(code)
  const pen = document.createElement('canvas').getContext('2d')
  pen.font = `${style.fontSize} ${style.fontFamily}`
  const box = getComputedStyle(code.parentElement)
  const room = code.parentElement.clientWidth - Number.parseFloat(box.paddingLeft)
  return Math.floor(room / pen.measureText('0').width)
}

/** In a box that scrolls or cuts, or in a menu that waits beside the screen. */
function inScroller(element) {
  if (getComputedStyle(element).position === 'fixed') return true
  for (let at = element.parentElement; at !== null && at !== document.body; at = at.parentElement) {
    if (getComputedStyle(at).position === 'fixed') return true
    if (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(at).overflowX)) return true
  }
  return false
}
